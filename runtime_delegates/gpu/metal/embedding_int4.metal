// Written by build_shaders.py from shaders/embedding.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint first_tile;
    uint tiles;
    uint cols;
    uint y_stride;
    float scale;
};

struct Weights
{
    uint4 weights[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _258 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_258, 1u, 1u);

kernel void embedding_int4(constant Push& p [[buffer(0)]], const device Weights& _162 [[buffer(1)]], device Y& _247 [[buffer(3)]], const device Step& _94 [[buffer(5)]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    do
    {
        bool _99 = gl_WorkGroupID.y >= _94.step_[0];
        bool _112;
        if (!_99)
        {
            _112 = gl_GlobalInvocationID.x >= p.cols;
        }
        else
        {
            _112 = _99;
        }
        if (_112)
        {
            break;
        }
        uint _119 = 16u + gl_WorkGroupID.y;
        uint _124 = _94.step_[_119] % 8u;
        uint _130 = (_94.step_[_119] / 8u) - p.first_tile;
        if (_130 >= p.tiles)
        {
            break;
        }
        uint _150 = p.first + (_130 * p.tile_vectors);
        uint _153 = gl_GlobalInvocationID.x / 32u;
        uint _156 = gl_GlobalInvocationID.x % 32u;
        uint _175 = _124 / 2u;
        uint _211 = (_150 + (((p.cols + 31u) / 32u) * 8u)) + _153;
        uint _310;
        if ((_124 & 1u) == 0u)
        {
            _310 = ((device uint*)&_162.weights[_211])[_175] & 65535u;
        }
        else
        {
            _310 = ((device uint*)&_162.weights[_211])[_175] >> uint(16);
        }
        uint _282 = _310 & 32767u;
        uint _284 = _282 << uint(13);
        float _299 = (_282 < 1024u) ? (as_type<float>(947912704u | _284) - 6.103515625e-05) : as_type<float>(_284 + ((_282 < 31744u) ? 939524096u : 1879048192u));
        float _311;
        if ((_310 & 32768u) != 0u)
        {
            _311 = -_299;
        }
        else
        {
            _311 = _299;
        }
        _247.y[(gl_WorkGroupID.y * p.y_stride) + gl_GlobalInvocationID.x] = spvFMul(spvFMul(p.scale, _311), float(int((((device uint*)&_162.weights[((_150 + (_153 * 8u)) + (((_156 % 16u) / 8u) * 4u)) + _175])[((_124 % 2u) * 2u) + ((_156 % 8u) / 4u)] >> (((gl_GlobalInvocationID.x % 4u) * 8u) + uint((_156 < 16u) ? 0 : 4))) & 15u) - 8));
        break;
    } while(false);
}

