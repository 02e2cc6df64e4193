// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _287 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _290 = (THREADS * TOKENS);
constant uint _291 = (_290 * 4u);
constant uint _316 = (64u * TOKENS);
constant uint _353 = (64u * TOKENS);
constant bool _409 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
};

constant uint _479 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _580 = (TOKENS * 4u);
constant bool _612 = (TOKENS >= 4u);
constant bool _614 = (_612 && false);
constant int _615 = _614 ? 2 : 2;
constant uint _616 = (uint(_615) + 0u);
constant bool _672 = (TOKENS >= 4u);
constant bool _673 = (_672 && false);
constant int _674 = _673 ? 2 : 2;
constant uint _675 = (uint(_674) + 0u);

struct X
{
    float4 x[1];
};

constant bool _795 = (TOKENS >= 4u);
constant bool _796 = (_795 && false);
constant int _797 = _796 ? 2 : 2;
constant uint _798 = (uint(_797) + 0u);
constant uint _799 = (_798 * THREADS);

struct Bias
{
    float bias0[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _851 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_851, 1u, 1u);

kernel void linear_fp32(constant Push& p [[buffer(0)]], const device Weights& _122 [[buffer(1)]], const device X& _738 [[buffer(2)]], device Y& _505 [[buffer(3)]], const device Bias& _829 [[buffer(4)]], const device Step& _417 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_291];
    threadgroup float chunk_sums[_353];
    do
    {
        uint _407 = gl_WorkGroupID.z * TOKENS;
        uint _1156;
        if (_409)
        {
            _1156 = 1u;
        }
        else
        {
            _1156 = _417.step_[0];
        }
        uint _1157;
        if ((p.flags & 2u) != 0u)
        {
            _1157 = _417.step_[2];
        }
        else
        {
            _1157 = 0u;
        }
        if (_407 >= _1156)
        {
            break;
        }
        uint _456 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _461 = _407 + (gl_LocalInvocationID.x / 8u);
        uint _475 = ((_461 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _456;
        bool _480 = gl_LocalInvocationID.x < _479;
        bool _488;
        if (_480)
        {
            _488 = _456 < p.rows;
        }
        else
        {
            _488 = _480;
        }
        bool _491 = _461 < _1156;
        bool _492 = _488 && _491;
        if ((_407 + TOKENS) <= _1157)
        {
            if (_492)
            {
                _505.y[_475] = 0.0;
            }
            break;
        }
        uint _524 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1158 = 0u; _1158 < TOKENS; )
        {
            x_at[_1158] = ((_407 + _1158) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1158++;
            continue;
        }
        uint _556 = _1156 - _407;
        float acc[32];
        for (uint _1159 = 0u; _1159 < _580; )
        {
            acc[_1159] = 0.0;
            _1159++;
            continue;
        }
        uint _864 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1160 = gl_LocalInvocationID.x; _1160 < _864; _1160 += _799)
        {
            for (uint _1169 = 0u; _1169 < 2u; _1169++)
            {
                bool _617 = _1169 < _616;
                bool _626;
                if (_617)
                {
                    _626 = (_1160 + (_1169 * THREADS)) < _864;
                }
                else
                {
                    _626 = _617;
                }
                if (_626)
                {
                    uint _632 = _1160 + (_1169 * THREADS);
                    uint _871 = _632 >> uint(1);
                    uint _872 = _871 * 4u;
                    uint _879 = (_524 + (_871 * 8u)) + (_632 & 1u);
                    uint4 _1203;
                    if (_872 < p.cols)
                    {
                        _1203 = _122.weights[_879];
                    }
                    else
                    {
                        _1203 = uint4(0u);
                    }
                    uint4 _1312;
                    if ((_872 + 1u) < p.cols)
                    {
                        _1312 = _122.weights[_879 + 2u];
                    }
                    else
                    {
                        _1312 = uint4(0u);
                    }
                    uint4 _1330;
                    if ((_872 + 2u) < p.cols)
                    {
                        _1330 = _122.weights[_879 + 4u];
                    }
                    else
                    {
                        _1330 = uint4(0u);
                    }
                    uint4 _1348;
                    if ((_872 + 3u) < p.cols)
                    {
                        _1348 = _122.weights[_879 + 6u];
                    }
                    else
                    {
                        _1348 = uint4(0u);
                    }
                    uint4 _1478[4] = { _1203, _1312, _1330, _1348 };
                    spvArrayCopyFromStackToStack1(raw[_1169], _1478);
                }
            }
            for (uint _1170 = 0u; _1170 < 2u; _1170++)
            {
                uint _670 = _1160 + (_1170 * THREADS);
                if ((_1170 >= _675) || (_670 >= _864))
                {
                    continue;
                }
                float4 _1487[4] = { float4(as_type<float>(raw[_1170][0].x), as_type<float>(raw[_1170][1].x), as_type<float>(raw[_1170][2].x), as_type<float>(raw[_1170][3].x)), float4(as_type<float>(raw[_1170][0].y), as_type<float>(raw[_1170][1].y), as_type<float>(raw[_1170][2].y), as_type<float>(raw[_1170][3].y)), float4(as_type<float>(raw[_1170][0].z), as_type<float>(raw[_1170][1].z), as_type<float>(raw[_1170][2].z), as_type<float>(raw[_1170][3].z)), float4(as_type<float>(raw[_1170][0].w), as_type<float>(raw[_1170][1].w), as_type<float>(raw[_1170][2].w), as_type<float>(raw[_1170][3].w)) };
                for (uint _1174 = 0u; _1174 < TOKENS; _1174 += 4u)
                {
                    if ((_1174 != 0u) && (_1174 >= _556))
                    {
                        continue;
                    }
                    for (uint _1175 = _1174; _1175 < (_1174 + 4u); _1175++)
                    {
                        if (_1175 >= TOKENS)
                        {
                            continue;
                        }
                        uint _747 = x_at[_1175] + (_670 >> uint(1));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _1487);
                        for (uint _1178 = 0u; _1178 < 4u; )
                        {
                            param_1[_1178] = fma(param[_1178].w, _738.x[_747].w, fma(param[_1178].z, _738.x[_747].z, fma(param[_1178].y, _738.x[_747].y, spvFMul(param[_1178].x, _738.x[_747].x))));
                            _1178++;
                            continue;
                        }
                        uint _772 = _1175 * 4u;
                        acc[_772] = spvFAdd(acc[_772], param_1[0]);
                        uint _1421 = _772 + 1u;
                        acc[_1421] += param_1[1];
                        uint _1438 = _772 + 2u;
                        acc[_1438] += param_1[2];
                        uint _1455 = _772 + 3u;
                        acc[_1455] += param_1[3];
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1161 = 0u; _1161 < _287; )
        {
            partial[(_1161 * THREADS) + gl_LocalInvocationID.x] = param_2[_1161];
            _1161++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1162 = gl_LocalInvocationID.x; _1162 < _316; _1162 += THREADS)
        {
            uint _1082 = (((_1162 / 16u) * THREADS) + ((_1162 / 8u) % 2u)) + (2u * (_1162 % 8u));
            float _1168;
            _1168 = partial[_1082];
            for (uint _1166 = 16u; _1166 < THREADS; )
            {
                _1168 = spvFAdd(_1168, partial[_1082 + _1166]);
                _1166 += 16u;
                continue;
            }
            chunk_sums[_1162] = _1168;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_492)
        {
            break;
        }
        uint _814 = gl_LocalInvocationID.x % 8u;
        uint _1123 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_814 % 4u)) * 2u) + (_814 / 4u)) * 8u;
        float _819 = spvFMul((((((spvFAdd(chunk_sums[_1123], chunk_sums[_1123 + 1u]) + chunk_sums[_1123 + 2u]) + chunk_sums[_1123 + 3u]) + chunk_sums[_1123 + 4u]) + chunk_sums[_1123 + 5u]) + chunk_sums[_1123 + 6u]) + chunk_sums[_1123 + 7u], spvFMul(p.scale, 1.0));
        float _1165;
        if ((p.flags & 1u) != 0u)
        {
            _1165 = spvFAdd(_819, _829.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _456]);
        }
        else
        {
            _1165 = _819;
        }
        _505.y[_475] = (_461 < _1157) ? 0.0 : _1165;
        break;
    } while(false);
}

