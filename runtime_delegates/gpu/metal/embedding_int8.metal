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
constant uint _238 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_238, 1u, 1u);

kernel void embedding_int8(constant Push& p [[buffer(0)]], const device Weights& _156 [[buffer(1)]], device Y& _227 [[buffer(3)]], const device Step& _94 [[buffer(5)]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
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
        uint _164 = _124 / 2u;
        uint _191 = _150 + (((p.cols + 7u) / 8u) * 4u);
        uint _290;
        if ((_124 & 1u) == 0u)
        {
            _290 = ((device uint*)&_156.weights[_191])[_164] & 65535u;
        }
        else
        {
            _290 = ((device uint*)&_156.weights[_191])[_164] >> uint(16);
        }
        uint _262 = _290 & 32767u;
        uint _264 = _262 << uint(13);
        float _279 = (_262 < 1024u) ? (as_type<float>(947912704u | _264) - 6.103515625e-05) : as_type<float>(_264 + ((_262 < 31744u) ? 939524096u : 1879048192u));
        float _291;
        if ((_290 & 32768u) != 0u)
        {
            _291 = -_279;
        }
        else
        {
            _291 = _279;
        }
        _227.y[(gl_WorkGroupID.y * p.y_stride) + gl_GlobalInvocationID.x] = spvFMul(spvFMul(p.scale, _291), float(extract_bits(int(((device uint*)&_156.weights[(_150 + ((gl_GlobalInvocationID.x / 8u) * 4u)) + _164])[((_124 % 2u) * 2u) + ((gl_GlobalInvocationID.x % 8u) / 4u)]), uint(int((gl_GlobalInvocationID.x % 4u) * 8u)), uint(8))));
        break;
    } while(false);
}

