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
constant uint _519 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _522 = (THREADS * TOKENS);
constant uint _523 = (_522 * 4u);
constant uint _548 = (64u * TOKENS);
constant uint _584 = (64u * TOKENS);
constant bool _640 = (TOKENS == 1u);

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
    uint residual_stride;
};

constant uint _709 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _810 = (TOKENS * 4u);
constant bool _842 = (TOKENS >= 4u);
constant bool _844 = (_842 && false);
constant int _845 = _844 ? 2 : 2;
constant uint _846 = (uint(_845) + 0u);
constant bool _902 = (TOKENS >= 4u);
constant bool _903 = (_902 && false);
constant int _904 = _903 ? 2 : 2;
constant uint _905 = (uint(_904) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1033 = (TOKENS >= 4u);
constant bool _1034 = (_1033 && false);
constant int _1035 = _1034 ? 2 : 2;
constant uint _1036 = (uint(_1035) + 0u);
constant uint _1037 = (_1036 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1115 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1115, 1u, 1u);

kernel void linear_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _141 [[buffer(1)]], const device X& _968 [[buffer(2)]], device Y& _735 [[buffer(3)]], const device Bias& _1067 [[buffer(4)]], const device Step& _648 [[buffer(5)]], const device Residual& _1091 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_523];
    threadgroup float chunk_sums[_584];
    do
    {
        uint _638 = gl_WorkGroupID.z * TOKENS;
        uint _1673;
        if (_640)
        {
            _1673 = 1u;
        }
        else
        {
            _1673 = _648.step_[0];
        }
        uint _1674;
        if ((p.flags & 2u) != 0u)
        {
            _1674 = _648.step_[2];
        }
        else
        {
            _1674 = 0u;
        }
        if (_638 >= _1673)
        {
            break;
        }
        uint _687 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _692 = _638 + (gl_LocalInvocationID.x / 8u);
        uint _703 = gl_WorkGroupID.y * p.y_group;
        uint _706 = ((_692 * p.y_stride) + _703) + _687;
        bool _710 = gl_LocalInvocationID.x < _709;
        bool _718;
        if (_710)
        {
            _718 = _687 < p.rows;
        }
        else
        {
            _718 = _710;
        }
        bool _721 = _692 < _1673;
        bool _722 = _718 && _721;
        if ((_638 + TOKENS) <= _1674)
        {
            if (_722)
            {
                _735.y[_706] = 0.0;
            }
            break;
        }
        uint _754 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1675 = 0u; _1675 < TOKENS; )
        {
            x_at[_1675] = ((_638 + _1675) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1675++;
            continue;
        }
        uint _786 = _1673 - _638;
        float acc[32];
        for (uint _1676 = 0u; _1676 < _810; )
        {
            acc[_1676] = 0.0;
            _1676++;
            continue;
        }
        uint _1128 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float _1257[4];
        for (uint _1677 = gl_LocalInvocationID.x; _1677 < _1128; _1677 += _1037)
        {
            for (uint _1687 = 0u; _1687 < 2u; _1687++)
            {
                bool _847 = _1687 < _846;
                bool _856;
                if (_847)
                {
                    _856 = (_1677 + (_1687 * THREADS)) < _1128;
                }
                else
                {
                    _856 = _847;
                }
                if (_856)
                {
                    uint _862 = _1677 + (_1687 * THREADS);
                    uint _1135 = _862 >> uint(1);
                    uint _1136 = _1135 * 4u;
                    uint _1143 = (_754 + (_1135 * 8u)) + (_862 & 1u);
                    uint4 _1735;
                    if (_1136 < p.cols)
                    {
                        _1735 = _141.weights[_1143];
                    }
                    else
                    {
                        _1735 = uint4(0u);
                    }
                    uint4 _1873;
                    if ((_1136 + 1u) < p.cols)
                    {
                        _1873 = _141.weights[_1143 + 2u];
                    }
                    else
                    {
                        _1873 = uint4(0u);
                    }
                    uint4 _1891;
                    if ((_1136 + 2u) < p.cols)
                    {
                        _1891 = _141.weights[_1143 + 4u];
                    }
                    else
                    {
                        _1891 = uint4(0u);
                    }
                    uint4 _1909;
                    if ((_1136 + 3u) < p.cols)
                    {
                        _1909 = _141.weights[_1143 + 6u];
                    }
                    else
                    {
                        _1909 = uint4(0u);
                    }
                    uint4 _2376[4] = { _1735, _1873, _1891, _1909 };
                    spvArrayCopyFromStackToStack1(raw[_1687], _2376);
                }
            }
            for (uint _1688 = 0u; _1688 < 2u; _1688++)
            {
                uint _900 = _1677 + (_1688 * THREADS);
                if ((_1688 >= _905) || (_900 >= _1128))
                {
                    continue;
                }
                float4 _1187 = float4(as_type<float>(raw[_1688][0].x), as_type<float>(raw[_1688][1].x), as_type<float>(raw[_1688][2].x), as_type<float>(raw[_1688][3].x)) * 64.0;
                half2 _1192 = half2(_1187.xz);
                half2 _1199 = half2(_1187.yw);
                float4 _1983 = float4(as_type<float>(raw[_1688][0].y), as_type<float>(raw[_1688][1].y), as_type<float>(raw[_1688][2].y), as_type<float>(raw[_1688][3].y)) * 64.0;
                half2 _1986 = half2(_1983.xz);
                half2 _1991 = half2(_1983.yw);
                float4 _2002 = float4(as_type<float>(raw[_1688][0].z), as_type<float>(raw[_1688][1].z), as_type<float>(raw[_1688][2].z), as_type<float>(raw[_1688][3].z)) * 64.0;
                half2 _2005 = half2(_2002.xz);
                half2 _2010 = half2(_2002.yw);
                float4 _2021 = float4(as_type<float>(raw[_1688][0].w), as_type<float>(raw[_1688][1].w), as_type<float>(raw[_1688][2].w), as_type<float>(raw[_1688][3].w)) * 64.0;
                half2 _2024 = half2(_2021.xz);
                half2 _2029 = half2(_2021.yw);
                for (uint _1693 = 0u; _1693 < TOKENS; _1693 += 4u)
                {
                    if ((_1693 != 0u) && (_1693 >= _786))
                    {
                        continue;
                    }
                    for (uint _1694 = _1693; _1694 < (_1693 + 4u); _1694++)
                    {
                        if (_1694 >= TOKENS)
                        {
                            continue;
                        }
                        uint _977 = x_at[_1694] + (_900 >> uint(1));
                        half2 _1270 = half2(_968.x[_977].xz);
                        half2 _1279 = half2(_968.x[_977].yw);
                        half2 _1298 = max(abs(_1270), abs(_1279));
                        half _1307 = max(_1298.x, _1298.y);
                        half2 _1329 = max(abs(_1192), abs(_1199));
                        half _1334 = max(_1329.x, _1329.y);
                        half2 _2048 = max(abs(_1986), abs(_1991));
                        half _2051 = max(_2048.x, _2048.y);
                        half2 _2073 = max(abs(_2005), abs(_2010));
                        half _2076 = max(_2073.x, _2073.y);
                        half2 _2098 = max(abs(_2024), abs(_2029));
                        half _2101 = max(_2098.x, _2098.y);
                        half2 _1375 = fma(_1199, _1279, spvFMul(_1192, _1270));
                        half2 _2131 = fma(_1991, _1279, _1986 * _1270);
                        half2 _2167 = fma(_2010, _1279, _2005 * _1270);
                        half2 _2203 = fma(_2029, _1279, _2024 * _1270);
                        float _2472;
                        float _2473;
                        float _2474;
                        float _2475;
                        if ((_1694 < _786) && (!((((((((((_1307 >= half(0.03125)) && (_1307 <= half(64.0))) && (_1334 >= half(0.03125))) && (_1334 <= half(256.0))) && (_2051 >= half(0.03125))) && (_2051 <= half(256.0))) && (_2076 >= half(0.03125))) && (_2076 <= half(256.0))) && (_2101 >= half(0.03125))) && (_2101 <= half(256.0)))))
                        {
                            float4 _2344[4] = { float4(as_type<float>(raw[_1688][0].x), as_type<float>(raw[_1688][1].x), as_type<float>(raw[_1688][2].x), as_type<float>(raw[_1688][3].x)), float4(as_type<float>(raw[_1688][0].y), as_type<float>(raw[_1688][1].y), as_type<float>(raw[_1688][2].y), as_type<float>(raw[_1688][3].y)), float4(as_type<float>(raw[_1688][0].z), as_type<float>(raw[_1688][1].z), as_type<float>(raw[_1688][2].z), as_type<float>(raw[_1688][3].z)), float4(as_type<float>(raw[_1688][0].w), as_type<float>(raw[_1688][1].w), as_type<float>(raw[_1688][2].w), as_type<float>(raw[_1688][3].w)) };
                            float4 _1255[4];
                            spvArrayCopyFromStackToStack1(_1255, _2344);
                            for (uint _1711 = 0u; _1711 < 4u; )
                            {
                                _1257[_1711] = fma(_1255[_1711].w, _968.x[_977].w, fma(_1255[_1711].z, _968.x[_977].z, fma(_1255[_1711].y, _968.x[_977].y, spvFMul(_1255[_1711].x, _968.x[_977].x))));
                                _1711++;
                                continue;
                            }
                            _2475 = _1257[0];
                            _2474 = _1257[1];
                            _2473 = _1257[2];
                            _2472 = _1257[3];
                        }
                        else
                        {
                            _2475 = spvFMul(spvFAdd(float(_1375.x), float(_1375.y)), 0.015625);
                            _2474 = (float(_2131.x) + float(_2131.y)) * 0.015625;
                            _2473 = (float(_2167.x) + float(_2167.y)) * 0.015625;
                            _2472 = (float(_2203.x) + float(_2203.y)) * 0.015625;
                        }
                        uint _1010 = _1694 * 4u;
                        acc[_1010] = spvFAdd(acc[_1010], _2475);
                        uint _2285 = _1010 + 1u;
                        acc[_2285] += _2474;
                        uint _2302 = _1010 + 2u;
                        acc[_2302] += _2473;
                        uint _2319 = _1010 + 3u;
                        acc[_2319] += _2472;
                    }
                }
            }
        }
        float param[32];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1678 = 0u; _1678 < _519; )
        {
            partial[(_1678 * THREADS) + gl_LocalInvocationID.x] = param[_1678];
            _1678++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1679 = gl_LocalInvocationID.x; _1679 < _548; _1679 += THREADS)
        {
            uint _1581 = (((_1679 / 16u) * THREADS) + ((_1679 / 8u) % 2u)) + (2u * (_1679 % 8u));
            float _1686;
            _1686 = partial[_1581];
            for (uint _1684 = 16u; _1684 < THREADS; )
            {
                _1686 = spvFAdd(_1686, partial[_1581 + _1684]);
                _1684 += 16u;
                continue;
            }
            chunk_sums[_1679] = _1686;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_722)
        {
            break;
        }
        uint _1052 = gl_LocalInvocationID.x % 8u;
        uint _1622 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1052 % 4u)) * 2u) + (_1052 / 4u)) * 8u;
        float _1057 = spvFMul((((((spvFAdd(chunk_sums[_1622], chunk_sums[_1622 + 1u]) + chunk_sums[_1622 + 2u]) + chunk_sums[_1622 + 3u]) + chunk_sums[_1622 + 4u]) + chunk_sums[_1622 + 5u]) + chunk_sums[_1622 + 6u]) + chunk_sums[_1622 + 7u], spvFMul(p.scale, 1.0));
        float _1682;
        if ((p.flags & 1u) != 0u)
        {
            _1682 = spvFAdd(_1057, _1067.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _687]);
        }
        else
        {
            _1682 = _1057;
        }
        float _1683;
        if ((p.flags & 4u) != 0u)
        {
            _1683 = spvFAdd(_1682, _1091.residual[((_692 * p.residual_stride) + _703) + _687]);
        }
        else
        {
            _1683 = _1682;
        }
        _735.y[_706] = (_692 < _1674) ? 0.0 : _1683;
        break;
    } while(false);
}

